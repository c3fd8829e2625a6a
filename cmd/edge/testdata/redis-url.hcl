redis {
  url = "redis://:a-secret@127.0.0.1:6379,127.0.0.1:6380"
}
origin "app" {
  url = "http://127.0.0.1:3000"
}
site "main" {
  hosts = ["*"]
}
