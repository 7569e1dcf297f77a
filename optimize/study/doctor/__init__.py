"""The look at machine, database and studies for what is wrong, with ways to mend it."""
