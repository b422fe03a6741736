"""What every record of the service can do: plain values, tables, schemas."""
