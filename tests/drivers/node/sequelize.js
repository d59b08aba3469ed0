// Sequelize's ORM on node-postgres, with managed transactions.

const { DataTypes, Sequelize } = require('sequelize')
const { converse, login, rival, sqlstate } = require('./conversation')

const { url, ssl } = login()
const sequelize = new Sequelize(url, { logging: false, pool: { max: 1 }, dialectOptions: ssl ? { ssl } : {} })
const options = { timestamps: false, createdAt: false, updatedAt: false }
const id = { type: DataTypes.BIGINT, primaryKey: true }
const Account = sequelize.define('accounts', { id, balance: DataTypes.BIGINT }, options)
const Payment = sequelize.define('payments', { id, account: DataTypes.BIGINT }, options)

const code = error => error.original?.code
const failure = work => sqlstate(work, code)

const balances = async () => (await Account.findAll({ order: ['id'] })).map(account => account.balance).join(' ')

const change = (id, by, transaction) => Account.increment({ balance: by }, { where: { id }, transaction })

// Reads an account, and writes what it computed from its balance.
const spend = interfere => sequelize.transaction(async transaction => {
  const account = await Account.findByPk(1, { transaction })
  await interfere()
  await account.update({ balance: account.balance - 10 }, { transaction })
})

converse({
  version: async () => require('sequelize/package.json').version,

  connect: async () => (await sequelize.query('SHOW application_name', { plain: true })).application_name,

  prepared: async () => {
    const seen = []
    for (const id of [1, 2, 3]) {
      const query = 'SELECT balance FROM accounts WHERE id = $1'
      seen.push((await sequelize.query(query, { bind: [id], plain: true })).balance)
    }
    return seen.join(' ')
  },

  transaction: async () => {
    await sequelize.transaction(async transaction => {
      await change(1, -10, transaction)
      await change(2, 10, transaction)
    })
    const undone = await sequelize.transaction()
    await Account.update({ balance: 0 }, { where: {}, transaction: undone })
    await undone.rollback()
    return balances()
  },

  savepoint: async () => {
    let seen
    await sequelize.transaction(async outer => {
      await change(1, -10, outer)
      seen = await failure(() => sequelize.transaction({ transaction: outer }, transaction =>
        Account.create({ id: 1, balance: 0 }, { transaction })))
      await change(2, 10, outer)
    })
    return `${seen}, then ${await balances()}`
  },

  unique: () => failure(() => Account.create({ id: 1, balance: 0 })),
  foreign_key: () => failure(() => Payment.create({ id: 1, account: 99 })),

  timeout: () => failure(() => sequelize.transaction(async transaction => {
    await sequelize.query('SET LOCAL statement_timeout = 50', { transaction })
    await sequelize.query('SELECT pg_sleep(60)', { transaction })
  })),

  batch: async () => {
    await Account.bulkCreate([{ id: 4, balance: 400 }, { id: 5, balance: 500 }])
    return balances()
  },

  hidden: async () => {
    let count
    const seen = await failure(() => sequelize.transaction(async transaction => {
      count = await Account.count({ transaction })
      await rival()
      await change(1, -10, transaction)
    }))
    return seen === 'nothing' ? `${count} accounts, then ${await balances()}` : seen
  },

  surfaced: async () => {
    const seen = await failure(() => spend(rival))
    return `${seen}, then ${await balances()}`
  },

  retry_loop: async () => {
    for (let attempts = 1; ; attempts++) {
      const seen = await failure(() => spend(attempts === 1 ? rival : async () => {}))
      if (seen !== '40001') return `${attempts} attempts, then ${await balances()}`
    }
  },
}, () => sequelize.close())
