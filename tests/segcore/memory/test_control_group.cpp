#include "segcore/memory/control_group.hpp"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

TEST(ControlGroup, OfVersion2HasTheLeastThatGroupsAroundItHaveLeft) {
  const test::TempDir system;
  const std::string groups = system.write("cgroup", "0::/jobs/job/step\n");
  system.write("jobs/memory.max", "1000\n");
  system.write("jobs/memory.current", "900\n");
  system.write("jobs/memory.stat", "anon 500\ninactive_file 250\nactive_file 150\n");
  system.write("jobs/job/memory.max", "600\n");
  system.write("jobs/job/memory.current", "100\n");
  system.write("jobs/job/step/memory.max", "max\n");
  system.write("jobs/job/step/memory.current", "100\n");
  const GroupMemory found = group_memory(system.path().string(), groups);
  EXPECT_EQ(found.limit, 600);
  EXPECT_EQ(found.free, 1000 - (900 - 250));
}

TEST(ControlGroup, OfVersion1IsFoundByItsOwnPath) {
  const test::TempDir system;
  const std::string groups =
      system.write("cgroup", "5:cpu,cpuacct:/\n4:memory:/jobs/job\n1:name=systemd:/jobs\n0::/\n");
  system.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  system.write("memory/memory.usage_in_bytes", "5000\n");
  system.write("memory/jobs/job/memory.limit_in_bytes", "2000\n");
  system.write("memory/jobs/job/memory.usage_in_bytes", "1500\n");
  system.write("memory/jobs/job/memory.stat", "inactive_file 1\ntotal_inactive_file 700\n");
  const GroupMemory found = group_memory(system.path().string(), groups);
  EXPECT_EQ(found.limit, 2000);
  EXPECT_EQ(found.free, 2000 - (1500 - 700));
}

TEST(ControlGroup, OfAContainerIsTheRootThatItSees) {
  const test::TempDir system;
  const std::string groups = system.write("cgroup", "0::/docker/0123\n");
  system.write("memory.max", "300\n");
  system.write("memory.current", "400\n");
  const GroupMemory found = group_memory(system.path().string(), groups);
  EXPECT_EQ(found.limit, 300);
  EXPECT_EQ(found.free, 0);
}

TEST(ControlGroup, MayHaveNoLimit) {
  const test::TempDir system;
  EXPECT_FALSE(group_memory(system.path().string(), system.write("cgroup", "0::/\n")).limit);
  EXPECT_FALSE(group_memory(system.path().string(), system / "none").free);
}

}  // namespace
}  // namespace seg
