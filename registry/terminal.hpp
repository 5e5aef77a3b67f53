/// The terminal that a program writes to.
#pragma once

namespace seg {

/// Columns of a line: $COLUMNS where it is a number of at least 20, else those of the terminal
/// behind the descriptor, else 80.
int terminal_width(int descriptor);

}  // namespace seg
