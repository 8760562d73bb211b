"""The wire protocol, owned by the server. PROTOCOL.md is its text; these modules are its code."""
