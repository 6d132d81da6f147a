"""The queue's first job: e-invoices become balanced vouchers in a ledger, one each."""
