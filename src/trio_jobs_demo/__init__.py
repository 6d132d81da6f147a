"""The queue's first job: e-invoices become balanced vouchers in a ledger, one each.

samples/           invoices of its own
trouble            a ledger that misbehaves as told
ledger, schema     the thing behind the queue: double entry, one session, one thread
vouchers           from an invoice to a balanced voucher
reading            from a file to an invoice; by standard: ubl, cfdi
xmltree, fields    strangers' files and their values, within limits
invoices           what an invoice is, and why one is not booked
display, currencies    foreign text and money as they are shown
"""
