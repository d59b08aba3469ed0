-- What every test database holds. Sequences are not rolled back: they count the attempts of a transaction.
CREATE SEQUENCE first;
CREATE SEQUENCE second;
CREATE SEQUENCE last;
CREATE FUNCTION conflict(counter regclass, times bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF nextval(counter) <= times THEN
    RAISE EXCEPTION 'restart transaction' USING ERRCODE = '40001';
  END IF;
  RETURN 'passed';
END $$;

CREATE FUNCTION remark() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'once'; END $$;

-- As CockroachDB has it: a conflict until so long after the start of the transaction.
CREATE SCHEMA crdb_internal;
CREATE FUNCTION crdb_internal.force_retry(wanted interval) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
  IF clock_timestamp() - transaction_timestamp() < wanted THEN
    RAISE EXCEPTION 'restart transaction: forced by crdb_internal.force_retry()' USING ERRCODE = '40001';
  END IF;
  RETURN 0;
END $$;

CREATE TABLE kv (k integer PRIMARY KEY, v integer NOT NULL);
INSERT INTO kv VALUES (1, 10), (2, 20), (3, 30);
CREATE TABLE journal (entry text NOT NULL);

-- A row in it fails the COMMIT as often as it says.
CREATE TABLE late (times bigint NOT NULL);
CREATE FUNCTION fail_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM conflict('last', NEW.times);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION fail_late();

-- The same, by the clock.
CREATE TABLE late_by_clock (wanted interval NOT NULL);
CREATE FUNCTION fail_late_by_clock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM crdb_internal.force_retry(NEW.wanted);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late_by_clock AFTER INSERT ON late_by_clock DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION fail_late_by_clock();
