// node-postgres as CockroachDB's tutorial for Node.js uses it: a basic sample, and a transaction with and without the
// wrapper that runs it again after a conflict. In our own words.

const { Pool } = require('pg')
const { converse, rival, sqlstate } = require('./conversation')

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 1 })

async function session(work) {
  const client = await pool.connect()
  try {
    return await work(client)
  } finally {
    client.release()
  }
}

async function balances(client) {
  const { rows } = await client.query('SELECT id, balance FROM accounts ORDER BY id')
  return rows.map(row => row.balance).join(' ')
}

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

// Takes an amount. What it is shown of the accounts before decides whether a conflict can be hidden.
async function take(client, look, interfere) {
  const shown = await look(client)
  await interfere()
  await client.query('UPDATE accounts SET balance = balance - $1 WHERE id = $2', [10, 1])
  return shown
}

async function count(client) {
  return (await client.query('SELECT count(*) FROM accounts')).rows[0].count
}

async function balance(client) {
  return (await client.query('SELECT balance FROM accounts WHERE id = $1', [1])).rows[0].balance
}

async function once(client, operation) {
  await client.query('BEGIN')
  try {
    await operation(client)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  }
}

// The wrapper: the whole transaction again after each 40001, with a pause that doubles.
async function wrapped(client, operation) {
  for (let attempt = 1; ; attempt++) {
    try {
      await once(client, () => operation(attempt))
      return attempt
    } catch (error) {
      if (error.code !== '40001' || attempt === 10) throw error
      await pause(2 ** attempt)
    }
  }
}

// The wrapper by CockroachDB's own protocol: one transaction, begun again at a savepoint.
async function restarted(client, operation) {
  await client.query('BEGIN; SAVEPOINT cockroach_restart')
  for (let attempt = 1; ; attempt++) {
    try {
      await operation(attempt)
      await client.query('RELEASE SAVEPOINT cockroach_restart')
      await client.query('COMMIT')
      return attempt
    } catch (error) {
      if (error.code !== '40001' || attempt === 10) {
        await client.query('ROLLBACK')
        throw error
      }
      await client.query('ROLLBACK TO SAVEPOINT cockroach_restart')
    }
  }
}

const rivalFirst = attempt => (attempt === 1 ? rival() : Promise.resolve())

const attempts = (wrapper, look) => () => session(async client => {
  const made = await wrapper(client, attempt => take(client, look, () => rivalFirst(attempt)))
  return `${made} attempts, then ${await balances(client)}`
})

converse({
  version: async () => require('pg/package.json').version,

  basic_sample: () => session(async client => {
    await client.query('DELETE FROM accounts')
    await client.query('INSERT INTO accounts (id, balance) VALUES (1, 1000), (2, 250)')
    const before = await balances(client)
    await client.query('UPDATE accounts SET balance = balance - 100 WHERE id = 1')
    await client.query('UPDATE accounts SET balance = balance + 100 WHERE id = 2')
    return `${before}, then ${await balances(client)}`
  }),

  hidden: () => session(async client => {
    let counted
    const seen = await sqlstate(() => once(client, async () => { counted = await take(client, count, rival) }))
    return seen === 'nothing' ? `${counted} accounts, then ${await balances(client)}` : seen
  }),

  hidden_wrapped: attempts(wrapped, count),

  surfaced: () => session(async client => {
    const seen = await sqlstate(() => once(client, () => take(client, balance, rival)))
    return `${seen}, then ${await balances(client)}`
  }),

  retry_loop: attempts(wrapped, balance),
  restart_savepoint: attempts(restarted, balance),
}, () => pool.end())
