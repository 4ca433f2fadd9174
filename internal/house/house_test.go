package house

import "testing"

// A rule returns what breaks it: one line each, the place first, then what is
// wrong and what to do.
type rule struct {
	name  string
	check func(*tree) []string
}

var rules = []rule{
	{"every Go file parses", filesParse},
	{"every room is in the plan", roomsAreNamed},
	{"imports follow the plan", importsFollowThePlan},
	{"environment, arguments and exit stay in cmd", limitedNamesStayInTheirRooms},
	{"clocks are injected", clocksAreInjected},
	{"sizes stay readable", sizesStayReadable},
	{"names say what is inside", namesSayWhatIsInside},
	{"nothing runs before main", nothingRunsBeforeMain},
	{"tests do not sleep", testsDoNotSleep},
	{"orders come from leases", ordersComeFromLeases},
	{"issue is called once", issueIsCalledOnce},
	{"workloads are verified", workloadsAreVerified},
	{"the first pages are there", pagesAreThere},
	{"links lead somewhere", linksLeadSomewhere},
	{"paths in ARCHITECTURE.md exist", pathsInArchitectureExist},
	{"text names no machine", textNamesNoMachine},
	{"text names no package registry", textNamesNoRegistry},
	{"nothing is put off", nothingIsPutOff},
}

func TestTheHouseIsAsPlanned(t *testing.T) {
	house := fromDisk(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, broken := range rule.check(house) {
				t.Error(broken)
			}
		})
	}
}
