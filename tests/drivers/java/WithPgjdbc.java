import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.StringWriter;
import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.core.BaseConnection;

/**
 * pgjdbc with autocommit off, statements prepared on the server from their second use, batches, and a cursor by fetch
 * size.
 *
 * <p>It reads the name of a check, runs it, and answers with "= " and its observation. In the middle of a check it may
 * say "rival", and another client of the database changes the balance of account 1, or "running", and is answered when
 * the server runs its statement. Either is answered with a line.
 */
public final class WithPgjdbc {
    private static final BufferedReader ORDERS = new BufferedReader(new InputStreamReader(System.in));
    private static final String BALANCES = "SELECT balance FROM accounts ORDER BY id";
    private static final String CHANGE = "UPDATE accounts SET balance = balance + ? WHERE id = ?";

    private interface Check {
        String run(Connection connection) throws Exception;
    }

    private interface Work {
        void run() throws Exception;
    }

    private static final Map<String, Check> CHECKS = Map.ofEntries(
        Map.entry("version", connection -> connection.getMetaData().getDriverVersion()),
        Map.entry("connect", connection -> words(connection, "SHOW application_name")),
        Map.entry("pid", WithPgjdbc::pid),
        Map.entry("prepared", WithPgjdbc::prepared),
        Map.entry("transaction", WithPgjdbc::transaction),
        Map.entry("savepoint", WithPgjdbc::savepoint),
        Map.entry("unique", connection -> failure(connection, "INSERT INTO accounts VALUES (1, 0)")),
        Map.entry("foreign_key", connection -> failure(connection, "INSERT INTO payments VALUES (1, 99)")),
        Map.entry("cancel", WithPgjdbc::cancel),
        Map.entry("copy_in", WithPgjdbc::copyIn),
        Map.entry("copy_out", WithPgjdbc::copyOut),
        Map.entry("cursor", WithPgjdbc::cursor),
        Map.entry("pipeline", WithPgjdbc::pipeline),
        Map.entry("hidden", WithPgjdbc::hidden),
        Map.entry("hidden_batch", WithPgjdbc::hiddenBatch),
        Map.entry("surfaced", WithPgjdbc::surfaced),
        Map.entry("retry_loop", WithPgjdbc::retryLoop));

    public static void main(String[] arguments) throws Exception {
        for (String line = ORDERS.readLine(); line != null; line = ORDERS.readLine()) {
            try (Connection connection = connect()) {
                System.out.println("= " + CHECKS.get(line).run(connection));
            }
        }
    }

    private static Connection connect() throws SQLException {
        URI url = URI.create(System.getenv("DATABASE_URL"));
        String options = url.getQuery().replace("application_name", "ApplicationName");
        Connection connection = DriverManager.getConnection("jdbc:postgresql://" + url.getHost() + ":" + url.getPort()
            + url.getPath() + "?user=" + url.getUserInfo() + "&prepareThreshold=2&" + options);
        connection.setAutoCommit(false);
        return connection;
    }

    private static void ask(String word) throws IOException {
        System.out.println(word);
        ORDERS.readLine();
    }

    private static String words(Connection connection, String query) throws SQLException {
        List<String> words = new ArrayList<>();
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(query)) {
            while (rows.next()) {
                words.add(rows.getString(1));
            }
        }
        return String.join(" ", words);
    }

    private static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    private static void change(PreparedStatement statement, int id, int amount) throws SQLException {
        statement.setLong(1, amount);
        statement.setLong(2, id);
    }

    private static void update(Connection connection, int id, int amount) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(CHANGE)) {
            change(statement, id, amount);
            statement.executeUpdate();
        }
    }

    private static void updateBoth(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(CHANGE)) {
            change(statement, 1, -10);
            statement.addBatch();
            change(statement, 2, 10);
            statement.addBatch();
            statement.executeBatch();
        }
    }

    private static String sqlstate(Connection connection, Work work) throws Exception {
        try {
            work.run();
            return "nothing";
        } catch (SQLException error) {
            connection.rollback();
            return error.getSQLState();
        }
    }

    private static String failure(Connection connection, String sql) throws Exception {
        return sqlstate(connection, () -> execute(connection, sql));
    }

    private static String pid(Connection connection) throws SQLException {
        int told = connection.unwrap(PGConnection.class).getBackendPID();
        return words(connection, "SELECT pg_backend_pid()").equals(String.valueOf(told)) ? "same" : "another";
    }

    private static String prepared(Connection connection) throws SQLException {
        List<String> words = new ArrayList<>();
        String query = "SELECT balance FROM accounts WHERE id = ?";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int id = 1; id <= 3; id++) {
                statement.setLong(1, id);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    words.add(rows.getString(1));
                }
            }
        }
        connection.commit();
        return String.join(" ", words);
    }

    private static String transaction(Connection connection) throws SQLException {
        update(connection, 1, -10);
        update(connection, 2, 10);
        connection.commit();
        execute(connection, "UPDATE accounts SET balance = 0");
        connection.rollback();
        return words(connection, BALANCES);
    }

    private static String savepoint(Connection connection) throws SQLException {
        String seen = "nothing";
        update(connection, 1, -10);
        Savepoint before = connection.setSavepoint("before");
        try {
            execute(connection, "INSERT INTO accounts VALUES (1, 0)");
        } catch (SQLException error) {
            seen = error.getSQLState();
            connection.rollback(before);
        }
        update(connection, 2, 10);
        connection.commit();
        return seen + ", then " + words(connection, BALANCES);
    }

    private static String cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread other = new Thread(() -> {
                try {
                    ask("running");
                    statement.cancel();
                } catch (IOException | SQLException error) {
                    throw new IllegalStateException(error);
                }
            });
            other.start();
            String seen = sqlstate(connection, () -> statement.execute("SELECT pg_sleep(60)"));
            other.join();
            return seen;
        }
    }

    private static String copyIn(Connection connection) throws Exception {
        CopyManager copy = new CopyManager(connection.unwrap(BaseConnection.class));
        copy.copyIn("COPY accounts (id, balance) FROM STDIN", new StringReader("4\t400\n5\t500\n"));
        connection.commit();
        return words(connection, BALANCES);
    }

    private static String copyOut(Connection connection) throws Exception {
        StringWriter copied = new StringWriter();
        CopyManager copy = new CopyManager(connection.unwrap(BaseConnection.class));
        copy.copyOut("COPY (" + BALANCES + ") TO STDOUT", copied);
        connection.commit();
        return copied.toString().trim().replace('\n', ' ');
    }

    private static String cursor(Connection connection) throws SQLException {
        List<String> words = new ArrayList<>();
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(1);
            try (ResultSet rows = statement.executeQuery(BALANCES)) {
                while (rows.next()) {
                    words.add(rows.getString(1));
                }
            }
        }
        connection.commit();
        return String.join(" ", words);
    }

    private static String pipeline(Connection connection) throws SQLException {
        updateBoth(connection);
        connection.commit();
        return words(connection, BALANCES);
    }

    private static String hidden(Connection connection) throws Exception {
        return afterCounting(connection, () -> update(connection, 1, -10));
    }

    private static String hiddenBatch(Connection connection) throws Exception {
        return afterCounting(connection, () -> updateBoth(connection));
    }

    private static String afterCounting(Connection connection, Work work) throws Exception {
        String[] count = new String[1];
        String seen = sqlstate(connection, () -> {
            count[0] = words(connection, "SELECT count(*) FROM accounts");
            ask("rival");
            work.run();
            connection.commit();
        });
        return seen.equals("nothing") ? count[0] + " accounts, then " + words(connection, BALANCES) : seen;
    }

    /** Reads a balance, and writes what it computed from it. */
    private static void spend(Connection connection, boolean isDisturbed) throws SQLException, IOException {
        int balance = Integer.parseInt(words(connection, "SELECT balance FROM accounts WHERE id = 1"));
        if (isDisturbed) {
            ask("rival");
        }
        execute(connection, "UPDATE accounts SET balance = " + (balance - 10) + " WHERE id = 1");
        connection.commit();
    }

    private static String surfaced(Connection connection) throws Exception {
        String seen = sqlstate(connection, () -> spend(connection, true));
        return seen + ", then " + words(connection, BALANCES);
    }

    private static String retryLoop(Connection connection) throws Exception {
        for (int attempts = 1; ; attempts++) {
            boolean isFirst = attempts == 1;
            if (!sqlstate(connection, () -> spend(connection, isFirst)).equals("40001")) {
                return attempts + " attempts, then " + words(connection, BALANCES);
            }
        }
    }
}
