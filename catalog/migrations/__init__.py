"""The history of the schema, for both services."""
