/// The errors a person can meet. tools/ turn each into one message and an exit code.
#pragma once
#include <memory>
#include <stdexcept>
#include <string>

#include "registry/text.hpp"

namespace seg {

class Diagnostics;

/// A broken contract in our own code (exit 70), and the base of all other errors.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A file of the data set is missing or wrong; the text names it (exit 1).
class DataError : public Error {
  using Error::Error;
};

/// A checkpoint is missing, damaged or unreadable; the text names the file (exit 1).
class CheckpointError : public Error {
  using Error::Error;
};

/// A checkpoint was read but its weights do not fit the model (exit 3).
class WeightsMismatch : public CheckpointError {
  using CheckpointError::CheckpointError;
};

/// A run that ends early for a reason that has an exit code of its own: 20 stopped by a signal with
/// a checkpoint saved, 21 the loss is not finite, 22 a peer process was lost.
class RunEnded : public Error {
 public:
  RunEnded(int exit_code, const std::string& message) : Error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

/// A command line that cannot be understood (exit 2).
class UsageError : public Error {
  using Error::Error;
};

/// Thrown by constructors of registered types for a value that is wrong only together with
/// something else (a width that the backbone does not give). `Spec::build` turns it into a
/// ConfigError with the file and line of the option.
class OptionError : public Error {
 public:
  OptionError(std::string option, const std::string& message)
      : Error(message), option_(std::move(option)) {}
  const std::string& option() const { return option_; }
  /// Further errors, in parts that the constructor built; null if none.
  const Diagnostics* besides() const { return besides_.get(); }
  void add_besides(const Diagnostics& found);

 private:
  std::string option_;
  std::shared_ptr<const Diagnostics> besides_;
};

}  // namespace seg

/// SEG_CHECK(x.dim() == 4, "expected [N, C, H, W], got ", x.sizes()): throws seg::Error.
#define SEG_CHECK(condition, ...)                                                       \
  do {                                                                                  \
    if (!(condition)) {                                                                 \
      throw ::seg::Error(::seg::text(__VA_ARGS__, " (", __FILE__, ":", __LINE__, ")")); \
    }                                                                                   \
  } while (false)
