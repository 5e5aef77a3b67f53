#include "tools/common/report_exception.hpp"

#include <c10/util/Exception.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <opencv2/core.hpp>
#include <system_error>

#include "registry/config.hpp"
#include "registry/log.hpp"

namespace seg {
namespace {

/// Bytes that would confuse a terminal, as they may come from files taken for others, as \xNN.
std::string printable(const std::string& message) {
  std::string out;
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      constexpr const char* kDigits = "0123456789abcdef";
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      out += c;
    }
  }
  return out;
}

std::string message_of(const std::string& what) { return "error: " + what; }

}  // namespace

int report_exception(const std::string& program) {
  const auto report = [](const std::string& message) {
    std::fflush(stdout);
    std::cerr << printable(message) << std::endl;
  };
  try {
    throw;
  } catch (const UsageError& e) {
    report(text(program, ": ", e.what(), " (see ", program, " --help)"));
    return 2;
  } catch (const ConfigError& e) {
    const std::string warnings = e.diagnostics.warnings_text();
    if (!warnings.empty()) report(warnings);
    report(e.what());
    return 1;
  } catch (const WeightsMismatch& e) {
    report(message_of(e.what()));
    return 3;
  } catch (const RunEnded& e) {
    report(message_of(e.what()));
    return e.exit_code();
  } catch (const DataError& e) {
    report(message_of(e.what()));
    return 1;
  } catch (const CheckpointError& e) {
    report(message_of(e.what()));
    return 1;
  } catch (const OptionError& e) {
    report(message_of(text(e.option(), ": ", e.what())));
    return 1;
  } catch (const Error& e) {
    report(text("internal error: ", e.what()));
    return 70;
  } catch (const c10::OutOfMemoryError& e) {
    report(message_of(text("not enough GPU memory: ", e.what_without_backtrace())));
    return 1;
  } catch (const c10::Error& e) {
    const std::string what = e.what_without_backtrace();
    log::debug(e.what());
    if (what.find("DefaultCPUAllocator") != std::string::npos) {
      report(message_of("not enough memory: " + what));
      return 1;
    }
    report(text("internal error: ", what));
    return 70;
  } catch (const cv::Exception& e) {
    report(text("internal error: OpenCV: ", e.err, " (", e.func, ")"));
    return 70;
  } catch (const std::bad_alloc&) {
    report(message_of("not enough memory"));
    return 1;
  } catch (const std::filesystem::filesystem_error& e) {
    report(message_of(text(e.path1().string(), ": ", e.code().message())));
    return 1;
  } catch (const std::system_error& e) {
    report(message_of(e.what()));
    return 1;
  } catch (const std::exception& e) {
    report(text("internal error: ", e.what()));
    return 70;
  } catch (...) {
    report("internal error: an exception of unknown type");
    return 70;
  }
}

}  // namespace seg
