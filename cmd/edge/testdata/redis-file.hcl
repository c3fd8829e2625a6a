redis {
  url     = "rediss://127.0.0.1"
  ca_file = "testdata/no-such-ca.pem"
}
origin "app" {
  url = "http://127.0.0.1:3000"
}
site "main" {
  hosts = ["*"]
}
