"""`rotate`: each key gets a replacement before it is retired."""
