"""What state is made of: sessions, changes, approvals, costs and receipts."""
