"""The durable state in SQL: one schema, one set of statements, SQLite or PostgreSQL."""
