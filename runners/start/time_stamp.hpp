/// Times as MMEngine writes them into names of folders and into checkpoints.
#pragma once
#include <ctime>
#include <string>

namespace seg {

/// "20261121_032601", in local time.
std::string time_stamp(std::time_t time);

}  // namespace seg
