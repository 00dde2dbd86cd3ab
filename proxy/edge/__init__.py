"""Thin I/O shells around the core: takeover, dial, accept, session, relay, HTTP pass-through."""
