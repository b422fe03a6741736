"""What people and programs see: text, tables, progress and questions. Knows no command."""
