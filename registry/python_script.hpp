/// The script with which Python reads configurations: python/read_config.py, put into the program
/// when it is built.
#pragma once
#include <string>

namespace seg::detail {

const std::string& python_script();

}  // namespace seg::detail
