//! Conversations recorded from real servers: their notation, and a player that holds a server against them.
