#!/bin/sh
# Runs a plugin of `buf generate`, or generates nothing where its language is not installed: plugin.sh PROGRAM ARGUMENT...
if ! command -v "$1" >/dev/null; then
  echo "no $1: its client is not generated" >&2
  printf '\020\001' # an answer without files, by a plugin that supports optional fields
  exit 0
fi
exec "$@"
