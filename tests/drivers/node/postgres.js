// Postgres.js: tagged templates, statements prepared and pipelined by itself, COPY by streams, cursors.

const { pipeline: stream } = require('node:stream/promises')
const { join } = require('node:path')
const { Readable } = require('node:stream')
const postgres = require('postgres')
const { converse, login, rival, running, sqlstate } = require('./conversation')

const { url, ssl } = login()
// Its types of arrays come from a catalog that not every database has.
const sql = postgres(url, { fetch_types: false, max: 1, onnotice: () => {}, ssl: ssl ?? false })

const balances = async () => (await sql`SELECT balance FROM accounts ORDER BY id`).map(row => row.balance).join(' ')

const change = (sql, id, amount) => sql`UPDATE accounts SET balance = balance + ${amount} WHERE id = ${id}`

// Reads a balance, and writes what it computed from it.
const spend = interfere => sql.begin(async sql => {
  const [{ balance }] = await sql`SELECT balance FROM accounts WHERE id = 1`
  await interfere()
  await sql`UPDATE accounts SET balance = ${balance - 10} WHERE id = 1`
})

converse({
  version: async () => require(join(require.resolve('postgres'), '../../../package.json')).version,

  connect: async () => (await sql`SHOW application_name`)[0].application_name,

  prepared: async () => {
    const seen = []
    for (const id of [1, 2, 3]) seen.push((await sql`SELECT balance FROM accounts WHERE id = ${id}`)[0].balance)
    return seen.join(' ')
  },

  transaction: async () => {
    await sql.begin(async sql => {
      await change(sql, 1, -10)
      await change(sql, 2, 10)
    })
    await sql.begin(async sql => {
      await sql`UPDATE accounts SET balance = 0`
      throw new Error('rolled back')
    }).catch(() => {})
    return balances()
  },

  savepoint: async () => {
    let seen
    await sql.begin(async sql => {
      await change(sql, 1, -10)
      seen = await sqlstate(() => sql.savepoint(sql => sql`INSERT INTO accounts VALUES (1, 0)`))
      await change(sql, 2, 10)
    })
    return `${seen}, then ${await balances()}`
  },

  unique: () => sqlstate(() => sql`INSERT INTO accounts VALUES (1, 0)`),
  foreign_key: () => sqlstate(() => sql`INSERT INTO payments VALUES (1, 99)`),

  cancel: () => sqlstate(async () => {
    const query = sql`SELECT pg_sleep(60)`.execute()
    const ended = query.then()
    ended.catch(() => {})
    await running()
    query.cancel()
    await ended
  }),

  copy_in: async () => {
    const into = await sql`COPY accounts (id, balance) FROM STDIN`.writable()
    await stream(Readable.from(['4\t400\n', '5\t500\n']), into)
    return balances()
  },

  copy_out: async () => {
    const copied = []
    const out = await sql`COPY (SELECT balance FROM accounts ORDER BY id) TO STDOUT`.readable()
    for await (const chunk of out) copied.push(chunk)
    return Buffer.concat(copied).toString().trim().split('\n').join(' ')
  },

  pipeline: async () => {
    await sql.begin(sql => [change(sql, 1, -10), change(sql, 2, 10)])
    return balances()
  },

  cursor: async () => {
    const seen = []
    for await (const [row] of sql`SELECT balance FROM accounts ORDER BY id`.cursor(1)) seen.push(row.balance)
    return seen.join(' ')
  },

  hidden: async () => {
    let count
    const seen = await sqlstate(() => sql.begin(async sql => {
      count = (await sql`SELECT count(*) FROM accounts`)[0].count
      await rival()
      await change(sql, 1, -10)
    }))
    return seen === 'nothing' ? `${count} accounts, then ${await balances()}` : seen
  },

  surfaced: async () => {
    const seen = await sqlstate(() => spend(rival))
    return `${seen}, then ${await balances()}`
  },

  retry_loop: async () => {
    for (let attempts = 1; ; attempts++) {
      const seen = await sqlstate(() => spend(attempts === 1 ? rival : async () => {}))
      if (seen !== '40001') return `${attempts} attempts, then ${await balances()}`
    }
  },
}, () => sql.end())
