"""Create a key for a customer, from a script or a notebook."""

from openrouter_keys import OpenRouter

# Reads OPENROUTER_API_KEY, and OPENROUTER_BASE_URL for an emulator, from the environment.
with OpenRouter() as client:
    created = client.api_keys.create(name="customer-42", limit=50, limit_reset="monthly")
    print(f"{created.data.name} may spend {created.data.limit} US dollars a month")
    print(f"its key, {created.data.label}, is in created.key: hand it over now, once")
