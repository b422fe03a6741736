"""How a request is sent, and sent again. Only `wire` imports the client of aiohttp."""
