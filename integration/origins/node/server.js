// A small shop of the kind that sits behind a cache. It listens on PORT (default
// 3000; 0 takes a free one) of 127.0.0.1 and prints one JSON line when it is ready.
//
// Everything under /-/ is for tests: what was asked for, and letting held
// responses go. The Go origin beside this one answers alike.

import http from 'node:http'
import { once } from 'node:events'
import express from 'express'
import { WebSocketServer } from 'ws'

const app = express()
app.disable('x-powered-by')
app.set('etag', false)

// --- what tests ask -------------------------------------------------------

const seen = []
app.use((req, res, next) => {
  if (!req.path.startsWith('/-/')) seen.push({ method: req.method, url: req.originalUrl, headers: req.headers })
  next()
})
app.use(express.json())

app.get('/-/log', (req, res) => res.json(seen))
app.get('/-/count', (req, res) => {
  const count = seen.filter(r => r.url === req.query.url && (!req.query.method || r.method === req.query.method)).length
  res.json({ count })
})

// --- products: cached for everyone, one answer for each language ------------

const words = { en: 'Product', de: 'Produkt', fr: 'Produit' }
const products = new Map()
const product = id => products.get(id) ?? { id, version: 1 }

function language (req) {
  return req.acceptsLanguages(Object.keys(words)) || 'en'
}

app.get('/products/:id', (req, res) => {
  const { id, version, name } = product(req.params.id)
  const lang = language(req)
  const etag = `"${id}-${version}-${lang}"`
  res.set({
    'Cache-Control': 'public, max-age=60, stale-while-revalidate=300',
    'CDN-Cache-Control': 'max-age=300, stale-while-revalidate=600',
    'Surrogate-Key': `products product-${id}`,
    'Content-Language': lang,
    Vary: 'Accept-Language',
    ETag: etag
  })
  if (req.get('If-None-Match') === etag) return res.status(304).end()
  res.json({ id, version, language: lang, name: name ?? `${words[lang]} ${id}` })
})

// What shows a product is out of date the moment it changes. When this returns, no
// node answers with the old one any more.
const edge = { url: process.env.EDGE_ADMIN, token: process.env.EDGE_TOKEN }

async function purge (...keys) {
  if (!edge.url) return
  const res = await fetch(`${edge.url}/purge`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${edge.token}` },
    body: JSON.stringify({ surrogate_keys: keys, wait: 'cluster' })
  })
  if (res.status !== 200) throw new Error(`purge: ${res.status} ${await res.text()}`)
}

app.post('/-/edge', (req, res) => { // for tests: which node to tell
  Object.assign(edge, req.body)
  res.status(204).end()
})

async function update (req, res) {
  const old = product(req.params.id)
  products.set(old.id, { id: old.id, version: old.version + 1, name: req.body?.name ?? old.name })
  await purge(`product-${old.id}`)
  res.json({ id: old.id, version: old.version + 1 })
}
app.put('/products/:id', update)
app.post('/products/:id', update)
app.post('/products', (req, res) => {
  const id = String(req.body?.id ?? 'new')
  const version = product(id).version + 1
  products.set(id, { id, version, name: req.body?.name })
  res.status(201).location(`/products/${id}`).json({ id, version })
})

// --- pages for one user -----------------------------------------------------

app.post('/login', (req, res) => {
  res.cookie('session', String(req.query.user), { httpOnly: true, path: '/' }).status(204).end()
})

// Careless on purpose, as such pages often are: it says how long, and not for whom.
app.get('/account', (req, res) => {
  const user = /(?:^|;\s*)session=([^;]+)/.exec(req.get('Cookie') ?? '')?.[1]
  if (!user) return res.set('Cache-Control', 'no-store').redirect(302, '/sign-in')
  res.set('Cache-Control', 'max-age=60').type('html').send(`<p>Orders of ${encodeURIComponent(user)}</p>`)
})

let visitors = 0
app.get('/welcome', (req, res) => {
  res.set('Cache-Control', 'public, max-age=60').cookie('visitor', String(++visitors)).type('html').send('<p>Welcome</p>')
})

// --- streams ------------------------------------------------------------------

// writeAll takes chunks no faster than the reader does.
async function writeAll (res, chunks) {
  for (const chunk of chunks) {
    if (res.destroyed) return
    if (!res.write(chunk)) await Promise.race([once(res, 'drain'), once(res, 'close')])
  }
  res.end()
}

let exported = 0
app.get('/export.csv', async (req, res) => {
  const rows = Number(req.query.rows ?? 1000)
  res.set('Cache-Control', 'no-store').type('text/csv')
  await writeAll(res, (function * () {
    yield 'id,name,price\n'
    for (let i = 1; i <= rows; i++) {
      exported = i
      yield `${i},Product ${i},${(i % 10000) / 100}\n`
    }
  })())
})
app.get('/-/exported', (req, res) => res.json({ count: exported }))

const listeners = new Set()
app.get('/events', (req, res) => {
  res.set({ 'Cache-Control': 'no-store', 'Content-Type': 'text/event-stream' })
  res.write(': welcome\n\n')
  listeners.add(res)
  res.on('close', () => listeners.delete(res))
})
app.post('/-/emit', (req, res) => {
  for (const l of listeners) l.write(`data: ${req.query.data}\n\n`)
  res.json({ count: listeners.size })
})

// The body of /big repeats one block whose length is no power of two, so that a
// chunk lost, doubled or moved shows.
const block = Buffer.alloc(65521)
for (let i = 0; i < block.length; i++) block[i] = (i * 131 + (i >> 8)) & 255

app.get('/big', async (req, res) => {
  const bytes = Number(req.query.bytes ?? 1 << 20)
  res.set('Cache-Control', req.query.cache ? `max-age=${Number(req.query.cache)}` : 'no-store')
  res.type('application/octet-stream')
  if (!req.query.chunked) res.set('Content-Length', String(bytes))
  await writeAll(res, (function * () {
    for (let left = bytes; left > 0; left -= block.length) yield left < block.length ? block.subarray(0, left) : block
  })())
})

// --- slow, held, failing, truncated --------------------------------------------

app.get('/slow', (req, res) => {
  setTimeout(() => res.set('Cache-Control', 'max-age=60').send('slow'), Number(req.query.ms ?? 500))
})

const held = new Map()
const hold = name => {
  if (!held.has(name)) {
    const h = {}
    h.released = new Promise(resolve => { h.release = resolve })
    held.set(name, h)
  }
  return held.get(name)
}
app.get('/held/:name', async (req, res) => {
  await hold(req.params.name).released
  res.set('Cache-Control', 'max-age=60').send(`held ${req.params.name}`)
})
app.post('/-/release/:name', (req, res) => {
  hold(req.params.name).release()
  res.status(204).end()
})

app.get('/fail', (req, res) => res.status(Number(req.query.status ?? 500)).send('failed'))

app.get('/truncate', (req, res) => {
  const send = Number(req.query.send ?? 100)
  res.set('Cache-Control', 'max-age=60')
  if (!req.query.chunked) res.set('Content-Length', String(send * 2))
  res.write('x'.repeat(send), () => res.socket.destroy())
})

app.get('/hints', (req, res) => {
  res.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' }, () => {
    res.set('Cache-Control', 'no-store').type('html').send('<p>hinted</p>')
  })
})

// --- the server -----------------------------------------------------------------

const server = http.createServer(app)
const sockets = new WebSocketServer({ server, path: '/ws' })
sockets.on('connection', ws => ws.on('message', (data, binary) => ws.send(data, { binary })))

server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(JSON.stringify({ msg: 'ready', url: `http://127.0.0.1:${server.address().port}` }))
})
process.on('SIGTERM', () => process.exit(0))
