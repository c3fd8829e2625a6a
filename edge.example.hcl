# A complete configuration of an edge node, usable as it stands in front of an
# origin on 127.0.0.1:3000:
#
#     edge check edge.example.hcl
#     edge run --config edge.example.hcl
#
# Every line that exists is here once. Lines with a value show their default, so
# all of them could be left out; the few that could not say so. Lines behind a "#"
# have no default value, or take it from elsewhere, and show a possible one.
#
# Durations are written "500ms", "30s", "5m", "1h30m" or "7d". Sizes are written
# "512B", "8KiB", "64MiB", "1GiB" (powers of 1024) or "1KB", "1MB", "1GB" (powers of
# 1000). A number without a unit is refused. env("NAME") reads the environment when
# the file is read, as a value or within text: "http://${env("APP_HOST")}:3000"; a
# variable that is not set is an error.

# The named policy that all decisions on caching start from:
#   "safe"  careful with cookies: responses to requests with a Cookie are stored only
#           if they say that they may be shared, responses with Set-Cookie are not
#           stored, and without explicit freshness nothing is.
#   "rfc"   the letter of RFC 9111: no rule on cookies, Set-Cookie stored with
#           responses that are explicitly fresh, heuristic freshness.
# A site or a route may name another. The policy comes first; then the lines of the
# cache blocks override it one by one: those of the file, of the site, of the route.
policy = "safe"

# The public listeners, and what clients may take of them.
server {
  # The node's name in Cache-Status and Via.
  name = "edge"

  # Addresses that clients reach. Port 0 is any free port.
  listen = [":8080"]

  # How long a client may take for the whole head of a request.
  header_timeout = "10s"

  # How long a client may be silent in the middle of a request body, and what must come
  # of it each second, over such a time. "0B" is no bound. The origin hears of a request
  # once so much of its body has come, or all of it, or 16 KiB; of a chunked one at once,
  # and of one whose client expects "100 Continue".
  body_timeout  = "30s"
  min_body_rate = "100B"

  # How long a connection may wait for its next request.
  idle_timeout = "75s"

  # How long a client may take nothing of its response.
  write_timeout = "60s"

  # The largest request head. A cache that passes on larger heads than its origin
  # reads would let one client turn an error into everybody's page.
  max_header_bytes = "8KiB"

  # The most of one head: its target, the number of its fields, and one field, name and
  # value. Neither target nor field can be larger than the head.
  max_target_bytes = "4KiB"
  max_fields       = 100
  max_field_bytes  = "4KiB"

  # Request fields with "_" in their names, which many origins cannot tell from those
  # with "-": "drop", or "pass".
  underscores = "drop"

  # Connections of one client at a time, of IPv6 of the first 64 bits; 0 is no bound.
  # Trusted proxies and balancers, below, speak for many and have none.
  connections_per_client = 16384

  # Whether plain hits are answered on the connection itself. What clients get is the
  # same with false, and takes longer.
  quick = true

  # How long requests under way may go on after SIGTERM.
  shutdown_grace = "30s"

  # Networks of the proxies in front of this node, such as ["10.0.0.0/8"]. Only
  # their X-Forwarded-For and Forwarded are believed, from the right.
  trusted_proxies = []

  # Networks of balancers whose connections begin with a header of the PROXY protocol
  # (version 1 or 2), such as ["10.0.0.0/8"]. They must send it; nobody else may.
  proxy_protocol = []
}

# The operator's own listener: purges, health, statistics, metrics. Never public.
admin {
  # An address, or "off".
  listen = "127.0.0.1:9090"

  # The names that the listener is reached by, such as ["admin.example"], beside its
  # address and localhost. Under any other name a web page could speak for its reader,
  # and the answer is 421.
  hosts = []

  # Who may ask: "Authorization: Bearer SECRET". Without a token, as here, everybody
  # on this machine may, and nobody else. With one, /healthz and /readyz alone need
  # none, and the others may come from anywhere.
  #
  # token "deploy" {
  #   # At least 16 bytes, different for each token.
  #   secret = env("EDGE_TOKEN")
  #
  #   # What it is good for: "purge", "read" (statistics, metrics, receipts), "debug"
  #   # (profiles), or "all".
  #   scopes = ["purge", "read"]
  #
  #   # The sites that it may purge. Without this line every one.
  #   sites = ["main"]
  # }
}

log {
  # "debug", "info", "warn" or "error".
  level = "info"

  # "json", "text", or "auto": text on a terminal, JSON elsewhere.
  format = "auto"

  # One line for each request. JSON is written some lines at a time, each a tenth of
  # a second late at most; warnings and errors at once.
  access = true
}

# With Redis (or Valkey), any number of nodes are a fleet: they share what they have
# stored, and a purge on one of them reaches all. Without this block, as here, a node
# is alone.
#
# redis {
#   # "redis://", or "rediss://" with TLS; then the host, its port unless it is 6379,
#   # and "/2" for the database 2. Several hosts stand behind commas, with
#   # "?cluster=true" for Redis Cluster or "?sentinel=NAME" for the sentinels of the
#   # master NAME.
#   url = "rediss://127.0.0.1:6379"
#
#   # If Redis asks for it: a password, and the name of an ACL user.
#   username = "edge"
#   password = env("REDIS_PASSWORD")
#
#   # TLS: authorities other than the system's, and a certificate of our own.
#   ca_file = "/etc/edge/redis-ca.pem"
#   cert_file = "/etc/edge/redis.pem"
#   key_file = "/etc/edge/redis.key"
#
#   # What all keys begin with. Fleets that share a Redis need different ones.
#   prefix = "edge:"
#
#   # How long a request waits for a look-up in Redis; then it goes to the origin. The
#   # answer may still come, for the next request. Until one comes, none waits.
#   patience = "5ms"
#
#   # A command that takes longer than this has failed. After three in a row the node
#   # goes on with what it has in memory, until Redis answers a probe. A count of a
#   # limit is waited for a third as long.
#   timeout = "20ms"
#
#   # A node that has not read the log of purges for so long asks the origin before it
#   # uses anything stored; or "off".
#   fence = "10m"
#
#   # The largest object that is shared.
#   max_object = "8MiB"
#
#   # Entries that wait to be written to Redis: their number, and what they hold.
#   queue = 1024
#   queue_size = "64MiB"
# }

# A limit on requests, which sites and routes name in their rate_limits. What is over
# it is answered with 429 and Retry-After, before the origin hears of it.
#
# rate_limit "api" {
#   # How many in what time.
#   rate = "100/1m"
#
#   # "token_bucket", with a burst: how many at once; "sliding_window" or "fixed_window".
#   algorithm = "token_bucket"
#   burst = 20
#
#   # What is counted apart. Without this line the client's address; of IPv6, here too,
#   # the first so many bits.
#   key = "${req.client_ip} ${req.header["X-Api-Key"]}"
#   ipv6_prefix = 64
#
#   # Once exceeded, refuse for so long. Without this line, until there is room.
#   block_for = "60s"
#
#   # Another rate for some: the first plan that holds.
#   plan "gold" {
#     when = starts_with(req.header["X-Api-Key"], "gold-")
#     rate = "5000/1m"
#   }
#
#   # "all", or "misses": only what reaches the origin, which is a budget for those who
#   # ask for ever new targets.
#   count = "all"
#
#   # Where it is counted: "memory", or "redis" for all nodes together, which is the
#   # default in a fleet. When Redis fails: "local" (this node's share of the limit),
#   # "allow" or "deny".
#   store = "memory"
#   on_store_error = "local"
#
#   # Counts that are kept in memory.
#   max_keys = 1000000
#
#   # Decide, count and log, and let everything pass.
#   dry_run = false
#
#   # RateLimit fields on what is let through, too; and the older X-RateLimit ones.
#   headers = false
#   legacy_headers = false
# }
#
# rate_limit "uploads" {
#   # Not a rate: how many at a time, on each node.
#   concurrent = 20
# }

# The memory tier, where responses are stored.
memory {
  # All of it, overhead included.
  size = "256MiB"

  # The largest response that is stored. At most a sixteenth of the size, and lower
  # by default where the size demands it.
  max_object = "8MiB"

  # How many variants (Vary) one URL may have.
  max_variants = 32
}

# Responses while they are being fetched. Clients that ask for the same thing read
# from one fetch, from its first byte.
fill {
  # What all fetches together may hold. Past it, responses stream on without being
  # stored.
  budget = "64MiB"

  # What a fetch holds once it can no longer be stored.
  window = "1MiB"

  # How long a request waits for another's fetch to begin before it asks the origin
  # itself.
  wait = "10s"

  # How long a client may take nothing while others wait for it.
  stall = "30s"
}

# The background queue of stale-while-revalidate.
refresh {
  # Fetches at a time.
  workers = 16

  # Refreshes that may wait. More are dropped, and counted.
  queue = 1024

  # Tries before a refresh is given up and listed as failed.
  attempts = 3

  # The wait before the second try. It doubles each time, with jitter.
  backoff = "500ms"
}

# Where content comes from. Sites and routes name it. There may be several.
origin "app" {
  # Scheme ("http" or "https"), host and port, without a path. Required.
  url = "http://127.0.0.1:3000"

  # How long connecting may take.
  connect_timeout = "2s"

  # How long the origin may take from the request sent to the head of its response.
  first_byte = "30s"

  # How long the origin may be silent in the middle of a body.
  between_bytes = "30s"

  # How long unused connections are kept. Node.js closes its own after 5s, so ours
  # close first.
  idle_timeout = "4s"

  # Connections at a time; 0 is no bound.
  max_connections = 0

  # The largest response head.
  max_header_bytes = "64KiB"

  # The Host that the origin gets. Without this line it gets the client's.
  # host = "app.internal"
}

# The cache policy of all sites. The same block may stand in a site and in a route,
# where its lines override these.
cache {
  # false passes every request to the origin, and stores nothing.
  enabled = true

  # Targeted fields (RFC 9213), the most important first. If a response has one,
  # its Cache-Control and Expires are for others than this cache.
  targets = ["CDN-Cache-Control"]

  # Whether Surrogate-Control is obeyed too, before the targeted fields. It is not
  # passed on then.
  surrogate_control = false

  # Whether s-maxage forbids all stale use (RFC 9111 section 5.2.2.10), even where
  # the response names a window for it.
  strict_s_maxage = false

  # These three follow from the policy, and so have no value here.
  #
  # Whether a response that says nothing of its freshness is stored for a tenth of
  # its age (RFC 9111 section 4.2.2). "safe": false, "rfc": true.
  # heuristic = true
  #
  # Whether explicitly fresh responses are stored together with their Set-Cookie, for
  # everybody. "safe": false, "rfc": true.
  # store_set_cookie = true
  #
  # What a Cookie in the request does: "permission" stores the response only if it
  # says that it may be shared ("safe"), "ignore" does nothing ("rfc"), "strip"
  # removes the cookies that the key does not name before the origin sees them.
  # cookies = "strip"

  # Whether Set-Cookie is removed from responses that may be stored otherwise.
  strip_set_cookie = false

  # Whether clients see Surrogate-Key, Cache-Tag and xkey.
  show_keys = false

  # Replaces whatever lifetime a response has, unless it forbids storing. null, here
  # and below, takes back a line of an outer block.
  # ttl = "5m"

  # The lifetime of responses that give none.
  # default_ttl = "1m"

  # The shortest and the longest lifetime. "0s" and null are no bound.
  min_ttl = "0s"
  max_ttl = null

  # Replace the windows that a response gives (RFC 5861): how long it may be served
  # stale while it is being fetched anew, and when the origin answers with an error.
  # stale_while_revalidate = "5m"
  # stale_if_error = "1h"

  # The meaning of a stale-while-revalidate without a value.
  default_stale_while_revalidate = "60s"

  # How long a response may be served stale when the origin cannot be reached and
  # nothing forbids it.
  stale_if_unreachable = "1h"

  # How long a response that can be revalidated is kept after it can no longer be
  # used otherwise.
  keep = "1h"

  # Error statuses that are stored without explicit freshness, and for how long:
  # { 404 = "10s", 410 = "10s" }. No lifetime may be longer than negative_max. Errors
  # about the form of one request (406-408, 411-413, 415-417, 421, 425, 426) are stored
  # only when they are in this list, and other 4xx that are not, but for 404, 410, 414
  # and 451, for no longer than negative_max, whatever the response says.
  negative     = {}
  negative_max = "10s"

  # How long a node remembers that a URL gives nothing to share, so that requests for
  # it do not wait for one another.
  hit_for_miss = "10s"

  # The largest response that is stored. Without this line as in memory { }.
  # max_object = "1MiB"

  # The most ranges that one request may ask for.
  max_ranges = 8

  # What a rule that makes responses storable by their path expects there. A
  # response of another type is not stored: it is not what the path promises. Without
  # this line that holds for paths that end as those of styles, scripts, images, fonts
  # and other files do (".css"), where a rule and not the response gives the lifetime.
  # "*/*" expects nothing. Where such a rule holds, a path with an encoded control byte
  # is refused with 400: origins differ in where such a path ends.
  # static_type = "text/css"

  # From which size on a stored body is not replaced by an empty answer (204, or 200
  # without a byte), but served on, stale, for as long as it may be instead of an error.
  # After that the empty answer is passed on and not stored, until what is stored is
  # gone or purged. 0 is no guard.
  shrink_guard = "0B"

  # What makes requests different, beside site, scheme, host, path and query.
  key {
    # Whether query parameters are sorted by name, in key and request.
    sort_query = false

    # The only query parameters that are kept, or those that are dropped, in key and
    # request. One list or the other.
    # allow_query = ["page", "q"]
    # deny_query  = ["utm_source", "utm_medium", "utm_campaign"]

    # Request headers and cookies whose values are part of the key.
    headers = []
    cookies = []

    # Any text, made from the request.
    # value = "${req.scheme}-${lower(req.header["X-Country"])}"
  }
}

# What is served under some hosts. There may be several.
#
# Text and conditions may look at the request: req.host (lower case, without port),
# req.method, req.path (decoded), req.query, req.scheme, req.client_ip,
# req.header["Name"], req.cookie["name"] and req.param["name"] (of the query). What is
# not there is "". Operators: == != && || ! and condition ? a : b. Functions:
#   contains(s, part)  starts_with(s, part)  ends_with(s, part)  contains(["a", "b"], s)
#   regex("pattern", s)  lower(s)  upper(s)  env("NAME")
site "main" {
  # Hosts, with a port unless it is the scheme's own. "*" alone is any host that no
  # other site names. Required.
  hosts = ["*"]

  # Where its content comes from. It may be left out if there is only one origin.
  origin = "app"

  # The limits that its requests are under, each of which must let them pass.
  rate_limits = []

  # Whether WebSocket upgrades are let through.
  upgrade = true

  # Changes to requests on their way to the origin: first names are removed, then
  # headers set, then lines added. Values are text, made from the request or not;
  # control characters that a request brings are left out. The rules of a route come
  # after those of its site.
  request_headers {
    remove = []
    set    = {}
    add    = {}
  }

  # The same for responses on their way to the client.
  response_headers {
    remove = ["X-Powered-By"]
    set    = { "X-Content-Type-Options" = "nosniff" }
    add    = {}
  }

  # A part of the site. It may have all the lines of a site but hosts, and takes from
  # the site what it does not say. The most specific route serves a request: an exact
  # path before a prefix, a longer prefix before a shorter one, on the same path one
  # with more conditions before one with fewer, and then the first. What no route
  # takes is served as the site says.
  route "assets" {
    # "/exact", "/prefix/*" or "/*", decoded. "/prefix/*" is what lies below the
    # folder. Required.
    path = "/assets/*"

    # Which methods; GET brings HEAD with it. Without this line any.
    methods = ["GET"]

    # A condition on the request. Without this line always.
    when = req.scheme == "http" || req.scheme == "https"

    cache {
      default_ttl = "1h"
      key {
        sort_query = true
      }
    }
  }

  route "account" {
    path = "/account/*"
    cache {
      enabled = false
    }
  }
}
