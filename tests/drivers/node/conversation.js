// How a program of the suite is told what to do, and tells what it saw: lines on standard input and output.
//
// It reads the name of a check, runs it, and answers with "= " and its observation. In the middle of a check it may say
// "rival", and another client of the database changes the balance of account 1, or "running", and is answered when the
// server runs its statement. Either is answered with a line.

const lines = require('node:readline').createInterface({ input: process.stdin })[Symbol.asyncIterator]()

async function ask(word) {
  console.log(word)
  await lines.next()
}

// Lets another client add 1 to the balance of account 1, and commit.
exports.rival = () => ask('rival')

// Waits until the server runs the statement that is to be cancelled.
exports.running = () => ask('running')

// Runs the checks that it is told to, by the names of their functions; then lets go of what keeps the program alive.
exports.converse = async (checks, end = async () => {}) => {
  for await (const name of { [Symbol.asyncIterator]: () => lines }) {
    console.log('=', await checks[name]())
  }
  await end()
}

// The SQLSTATE with which something fails.
exports.sqlstate = async (work, code = error => error.code) => {
  try {
    await work()
    return 'nothing'
  } catch (error) {
    return code(error) ?? error.stack
  }
}

// The URL and options of TLS for drivers that do not read the file of `sslrootcert` themselves.
exports.login = () => {
  const url = new URL(process.env.DATABASE_URL)
  const authority = url.searchParams.get('sslrootcert')
  for (const name of ['sslmode', 'sslrootcert']) url.searchParams.delete(name)
  return { url: url.href, ssl: authority && { ca: require('node:fs').readFileSync(authority, 'utf8') } }
}
