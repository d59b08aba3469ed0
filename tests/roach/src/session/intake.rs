//! Makes commands of the client's messages.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse};
use pgwire::messages::simplequery::Query;

use super::Session;
use super::frames::Frame;
use crate::errors::SqlError;
use crate::retry::{Command, Received};
use crate::sql::parser::parse;
use crate::sql::statement::Statement;
use crate::transaction::State;

impl Session {
    /// The next command, or nothing when the conversation is over.
    pub(super) async fn next_command(&mut self) -> io::Result<Option<Received>> {
        loop {
            if let Some(received) = self.commands.take() {
                return Ok(Some(received));
            }
            match self.next_frame().await? {
                None => return Ok(None),
                Some(frame) if frame.tag == b'X' => return Ok(None),
                Some(frame) => self.understand(frame).await?,
            }
        }
    }

    /// The next message, unless the session is ended from outside while it waits.
    async fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let handle = self.handle.clone();
        let shared = self.shared.clone();
        let is_idle = self.state == State::NoTxn && !self.frames.has_unread();
        tokio::select! {
            biased;
            () = handle.killed() => Ok(None),
            () = shared.drained(), if is_idle => {
                self.say_goodbye().await?;
                Ok(None)
            }
            frame = self.frames.next() => frame,
        }
    }

    async fn understand(&mut self, frame: Frame) -> io::Result<()> {
        let now = Instant::now();
        let command = match frame.tag {
            b'Q' => return self.query(frame, now),
            b'P' => frame.decode::<Parse>().map(|parse| Command::Parse(Arc::new(parse))),
            b'B' => frame.decode::<Bind>().map(|bind| Command::Bind(Arc::new(bind))),
            b'D' => frame.decode::<Describe>().map(|describe| Command::Describe(Arc::new(describe))),
            b'C' => frame.decode::<Close>().map(|close| Command::Close(Arc::new(close))),
            b'E' => frame.decode::<Execute>().map(|execute| Command::Execute {
                portal: execute.name.unwrap_or_default(),
                max_rows: usize::try_from(execute.max_rows).unwrap_or(0),
            }),
            b'H' => Some(Command::Flush),
            b'S' => Some(Command::Sync { ends_query: false }),
            // What is left of a COPY that has failed.
            b'd' | b'c' | b'f' => return Ok(()),
            other => {
                let message = format!("unrecognized client message type ClientMessageType({other})");
                self.output.error(&SqlError::protocol(message), self.version());
                return self.flush().await;
            }
        };
        let malformed = || Command::Fail { error: SqlError::protocol("malformed message"), in_query: false };
        self.commands.push(command.unwrap_or_else(malformed), now);
        Ok(())
    }

    fn query(&mut self, frame: Frame, now: Instant) -> io::Result<()> {
        let Some(Query { query, .. }) = frame.decode() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match parse(&query, self.version()) {
            Err(error) => self.commands.push(Command::Fail { error, in_query: true }, now),
            Ok(statements) if statements.is_empty() => self.commands.push(Command::Empty, now),
            Ok(statements) => {
                let is_alone = statements.len() == 1;
                for parsed in statements {
                    let copies = matches!(parsed.statement, Statement::CopyFrom { .. });
                    let command = if copies && !is_alone {
                        let message =
                            "COPY together with other statements in a query string is not supported";
                        Command::Fail { error: SqlError::protocol(message), in_query: true }
                    } else {
                        Command::Statement(Arc::new(parsed))
                    };
                    self.commands.push(command, now);
                }
            }
        }
        self.commands.push(Command::Sync { ends_query: true }, now);
        Ok(())
    }
}
