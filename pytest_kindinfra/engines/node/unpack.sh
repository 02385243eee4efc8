#!/bin/bash
# Unpack one archive of the snapshot into /var.
exec tar --extract --file="/kindinfra-snapshot/$1.tar" --directory=/var --overwrite \
  --same-permissions --numeric-owner --xattrs --xattrs-include='*'
