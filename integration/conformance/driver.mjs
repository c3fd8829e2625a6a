// Drives one unpacked copy of the suite with the suite's own test definitions and client.
//
//   node driver.mjs SUITE_DIR list                      definitions, as JSON on file descriptor 3
//   node driver.mjs SUITE_DIR run BASE_URL SECONDS [ID...]   results, as JSON on file descriptor 3
//
// The suite's own command line prints its results only when every test has ended and gives a request no bound, so that one
// request left hanging loses them all. Here a request has ten seconds (as in newer copies of the suite), and after SECONDS the results
// so far are written. Tests named by ID say on standard output what they send and receive.
import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [dir, action, base, seconds, ...ids] = process.argv.slice(2)
const requestBound = 10_000 // milliseconds
const concurrent = 25 // tests at a time, so that pauses of seconds stay true on a small machine

// The published release keeps its engine at the root, newer copies in a folder.
const engine = fs.existsSync(path.join(dir, 'test-engine')) ? path.join(dir, 'test-engine') : dir
const load = (...parts) => import(pathToFileURL(path.join(...parts)))

async function definitions () {
  const suites = [...(await load(dir, 'tests', 'index.mjs')).default]
  const surrogate = path.join(dir, 'tests', 'surrogate-control.mjs')
  if (fs.existsSync(surrogate)) suites.push((await load(surrogate)).default) // as the release's own displays do
  return suites
}

function list (suites) {
  return suites.map(suite => ({
    id: suite.id,
    name: suite.name,
    tests: suite.tests.map(test => ({
      id: test.id,
      name: test.name,
      kind: test.kind ?? 'required',
      depends_on: test.depends_on ?? [],
      browser_only: test.browser_only === true
    }))
  }))
}

// The release calls the fetch that it is given, node-fetch; newer copies call the global one and bound it themselves.
function boundedFetch () {
  const nodeFetch = createRequire(path.join(dir, 'package.json'))('node-fetch')
  return (url, init) => nodeFetch(url, { ...init, signal: AbortSignal.timeout(requestBound) })
}

async function run (suites) {
  if (ids.length > 0) {
    suites = suites.map(suite => ({ ...suite, tests: suite.tests.filter(test => ids.includes(test.id)) }))
    suites.forEach(suite => suite.tests.forEach(test => { test.dump = true }))
  }
  const { runTests, getResults } = await load(engine, 'client', 'runner.mjs')
  const running = engine === dir
    ? runTests(suites, boundedFetch(), false, base, concurrent)
    : runTests(suites, false, base, concurrent)
  const late = new Promise(resolve => setTimeout(resolve, Number(seconds) * 1000))
  await Promise.race([running, late])
  return getResults()
}

const suites = await definitions()
const output = action === 'list' ? list(suites) : await run(suites)
fs.writeFileSync(3, JSON.stringify(output))
process.exit(0) // connections kept alive, and requests still hanging, would hold the process
