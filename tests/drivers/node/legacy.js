// A legacy client: the simple protocol only, with literals in its texts, as the database objects of telephone systems
// send them. It knows no retries; where the database has table locks, it takes one to be alone.

const { Client } = require('pg')
const { converse, sqlstate } = require('./conversation')

async function session(work) {
  const client = new Client(process.env.DATABASE_URL)
  await client.connect()
  try {
    return await work(async text => (await client.query(text)).rows)
  } finally {
    await client.end()
  }
}

const sessions = (count, work, queries = []) =>
  count === 0 ? work(...queries) : session(query => sessions(count - 1, work, [...queries, query]))

async function begin(query) {
  await query('BEGIN')
  await query('LOCK TABLE users IN ACCESS EXCLUSIVE MODE')
}

const credit = async query => Number((await query("SELECT credit FROM users WHERE sip='1001'"))[0].credit)

// The rest of a withdrawal: the client computes what is left, and keeps the number of its entry.
async function withdraw(query, amount, left) {
  await query(`UPDATE users SET credit=${left - amount} WHERE sip='1001'`)
  const entry = "INSERT INTO withdrawals (id, sip, amount) VALUES (nextval('numbers'), '1001', " + amount + ') RETURNING id;'
  const [{ id }] = await query(entry)
  await query('COMMIT')
  return id
}

// Waits until so many sessions wait for a lock.
async function untilWaiting(query, sessions) {
  const waiting = 'SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = \'users\'::regclass'
  while (Number((await query(waiting))[0].count) !== sessions) await new Promise(resolve => setTimeout(resolve, 5))
}

async function outcome(query, refused) {
  const entries = await query("SELECT id FROM withdrawals WHERE sip='1001'")
  return `${entries.length} withdrawals, ${refused}, credit ${await credit(query)}`
}

converse({
  version: async () => require('pg/package.json').version,

  // Two withdrawals and a payment at the same time. The payment has its snapshot from before the withdrawals.
  withdrawal: () => sessions(4, async (first, second, payer, observer) => {
    await begin(first)
    const locked = begin(second)
    await untilWaiting(observer, 1)
    const paid = sqlstate(() => payer("UPDATE users SET credit=credit+5 WHERE sip='1001'"))
    await untilWaiting(observer, 2)
    await withdraw(first, 60, await credit(first))
    await locked
    await withdraw(second, 30, await credit(second))
    return outcome(observer, `payment ${await paid}`)
  }),

  // Two withdrawals where nothing is locked: the second has been shown what the first one spends.
  withdrawal_unlocked: () => sessions(2, async (first, second) => {
    const refused = await sqlstate(() => begin(first))
    if (refused !== 'nothing') return refused
    await begin(second)
    const [shownFirst, shownSecond] = [await credit(first), await credit(second)]
    await withdraw(first, 60, shownFirst)
    const seen = await sqlstate(() => withdraw(second, 30, shownSecond))
    await second('ROLLBACK')
    return outcome(first, `second ${seen}`)
  }),
})
