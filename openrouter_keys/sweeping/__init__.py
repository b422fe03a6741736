"""The keys of an account that no journal knows: listed, and disabled or deleted if asked for."""
