"""A demo of trio-jobs: it books e-invoices in a ledger, one balanced voucher for each invoice.

bookkeeping            the service: it books an invoice, looks one up, returns the totals
ledger, schema         the SDK behind the queue: double entry in SQLite, one session, one thread
faulty_ledger          a ledger that fails by script
vouchers               creates a balanced voucher from an invoice, for a sale or a purchase
content, owner         whether two invoices are the same one; whose book it is
reader                 reads an invoice from a file; ubl and cfdi read the two standards
ubl_amounts, ubl_parties, ubl_taxes    parts of a UBL document
xml_tree, fields       parse untrusted XML files and their values within limits
invoices               the invoice, and the reasons for not booking one
demo_run               one run: reads the files, submits a job for each, follows the jobs
journal_book           the book that the jobs of a journal are for
input_files            the files of a run
file_results, screen   the result of each file, and its presentation
summary, csv_report    the result of all files, for a person and for a program
exit_codes             what a nightly job needs to know
output, stop_signals   the terminal, which may go away, and the signals
display, currencies    untrusted text and money for the terminal
samples                invoices of the demo
"""
