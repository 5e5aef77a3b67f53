/// What a process of any program is protected against before it does anything else.
#pragma once

namespace seg {

/// Gives closed standard streams (`<&- >&- 2>&-`) to /dev/null: the next file opened would get
/// their descriptors, and with them every message.
void occupy_standard_streams();

/// A reader that went away (SIGPIPE) and a limit of file sizes (SIGXFSZ) become errors of the write
/// and do not end the process.
void ignore_write_signals();

/// Writes what standard output still holds.
/// \throws DataError where some of it could not be written, unless its reader went away.
void flush_standard_output();

}  // namespace seg
