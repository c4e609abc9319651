module trimtab.local/node

go 1.26.0
