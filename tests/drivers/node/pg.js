// node-postgres: clients and a pool, named statements, COPY by streams.

const { pipeline: stream } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { Client, Query } = require('pg')
const { from, to } = require('pg-copy-streams')
const { converse, rival, running, sqlstate } = require('./conversation')

const BALANCES = 'SELECT balance FROM accounts ORDER BY id'
const CHANGE = 'UPDATE accounts SET balance = balance + $1 WHERE id = $2'

async function session(work) {
  const client = new Client(process.env.DATABASE_URL)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

async function transaction(client, work) {
  await client.query('BEGIN')
  try {
    await work()
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  }
}

async function balances(client) {
  const { rows } = await client.query(BALANCES)
  return rows.map(row => row.balance).join(' ')
}

// Reads a balance, and writes what it computed from it.
function spend(client, interfere) {
  return transaction(client, async () => {
    const { rows } = await client.query('SELECT balance FROM accounts WHERE id = 1')
    await interfere()
    await client.query('UPDATE accounts SET balance = $1 WHERE id = 1', [rows[0].balance - 10])
  })
}

const failure = statement => () => session(client => sqlstate(() => client.query(statement)))

converse({
  version: async () => require('pg/package.json').version,

  connect: () => session(async client => (await client.query('SHOW application_name')).rows[0].application_name),

  pid: () => session(async client => {
    const { rows } = await client.query('SELECT pg_backend_pid()')
    return rows[0].pg_backend_pid === client.processID ? 'same' : 'another'
  }),

  prepared: () => session(async client => {
    const seen = []
    for (const id of [1, 2, 3]) {
      const query = { name: 'balance', text: 'SELECT balance FROM accounts WHERE id = $1', values: [id] }
      seen.push((await client.query(query)).rows[0].balance)
    }
    return seen.join(' ')
  }),

  transaction: () => session(async client => {
    await transaction(client, async () => {
      await client.query(CHANGE, [-10, 1])
      await client.query(CHANGE, [10, 2])
    })
    await client.query('BEGIN')
    await client.query('UPDATE accounts SET balance = 0')
    await client.query('ROLLBACK')
    return balances(client)
  }),

  savepoint: () => session(async client => {
    let seen
    await transaction(client, async () => {
      await client.query(CHANGE, [-10, 1])
      await client.query('SAVEPOINT before')
      seen = await sqlstate(() => client.query('INSERT INTO accounts VALUES (1, 0)'))
      await client.query('ROLLBACK TO SAVEPOINT before')
      await client.query(CHANGE, [10, 2])
    })
    return `${seen}, then ${await balances(client)}`
  }),

  unique: failure('INSERT INTO accounts VALUES (1, 0)'),
  foreign_key: failure('INSERT INTO payments VALUES (1, 99)'),

  cancel: () => session(client => sqlstate(async () => {
    const query = new Query('SELECT pg_sleep(60)')
    const ended = new Promise((resolve, reject) => query.on('end', resolve).on('error', reject))
    ended.catch(() => {})
    client.query(query)
    await running()
    new Client(process.env.DATABASE_URL).cancel(client, query)
    await ended
  })),

  copy_in: () => session(async client => {
    const into = client.query(from('COPY accounts (id, balance) FROM STDIN'))
    await stream(Readable.from(['4\t400\n', '5\t500\n']), into)
    return balances(client)
  }),

  copy_out: () => session(async client => {
    const out = client.query(to('COPY (SELECT balance FROM accounts ORDER BY id) TO STDOUT'))
    const copied = []
    for await (const chunk of out) copied.push(chunk)
    return Buffer.concat(copied).toString().trim().split('\n').join(' ')
  }),

  hidden: () => session(async client => {
    let count
    const seen = await sqlstate(() => transaction(client, async () => {
      count = (await client.query('SELECT count(*) FROM accounts')).rows[0].count
      await rival()
      await client.query(CHANGE, [-10, 1])
    }))
    return seen === 'nothing' ? `${count} accounts, then ${await balances(client)}` : seen
  }),

  surfaced: () => session(async client => {
    const seen = await sqlstate(() => spend(client, rival))
    return `${seen}, then ${await balances(client)}`
  }),

  retry_loop: () => session(async client => {
    for (let attempts = 1; ; attempts++) {
      const seen = await sqlstate(() => spend(client, attempts === 1 ? rival : async () => {}))
      if (seen !== '40001') return `${attempts} attempts, then ${await balances(client)}`
    }
  }),
})
