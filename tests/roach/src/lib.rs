//! A CockroachDB that fits in a test: an in-process server with its exact transaction states on the wire.
