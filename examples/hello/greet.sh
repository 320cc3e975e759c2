#!/bin/sh
# Greets with the word that it is given.
echo "$1 from BuildIt!"
