"""The commands of `centerclip`, one file each: `options(parser)` adds options, `job(arguments)` runs the command."""
