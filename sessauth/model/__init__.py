"""The records of the state: sessions, changes, approvals, costs and receipts."""
