"""A small clinic: patients, notes, appointments, invoices, and the history of each from the log."""
