"""DataStorage: keeps the audit trail and the catalogue of workflows in PostgreSQL."""
