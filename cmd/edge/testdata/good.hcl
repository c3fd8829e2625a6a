origin "app" {
  url = "http://127.0.0.1:3000"
}

site "shop" {
  hosts  = ["shop.test"]
  origin = "app"
}
