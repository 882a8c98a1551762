"""Read the records of a file that people or other programs made: CSV, JSON and workbooks.

Every line of a file belongs to one record, and a record is read or refused. So the lines of the
records add up to those of the file, whatever is in it.
"""
