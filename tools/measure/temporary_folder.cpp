#include "tools/measure/temporary_folder.hpp"

#include <cstdlib>
#include <filesystem>

#include "registry/error.hpp"

namespace seg {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "segcore-XXXXXX").string();
  if (!mkdtemp(name.data())) throw DataError("cannot make a folder " + name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace seg
