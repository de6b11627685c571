//! The simulator: clients and the server's engine in one thread.
