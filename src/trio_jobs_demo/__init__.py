"""A demo of trio-jobs: it books e-invoices in a ledger, one balanced voucher for each invoice.

bookkeeping            the service: one handler that books an invoice, one that returns the totals
ledger, schema         the SDK behind the queue: double entry in SQLite, one session, one thread
faulty_ledger          a ledger that fails by script
vouchers               creates a balanced voucher from an invoice
reader                 reads an invoice from a file; ubl and cfdi read the two standards
xml_tree, fields       parse untrusted XML files and their values within limits
invoices               the invoice, and the reasons for not booking one
file_results, screen   the result of each file, and its presentation
display, currencies    untrusted text and money for the terminal
samples                invoices of the demo
"""
