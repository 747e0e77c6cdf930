"""Speed and memory of marginseg's ops, beside other packages and beside what the machine allows."""
