"""Programs that speak: DNS and HTTP, clients and servers. Messages in, messages out; none of them knows a room."""
