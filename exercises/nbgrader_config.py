"""Settings of this course, read by `chatlab classroom`, by nbgrader's own commands and by its formgrader."""

from chatlab.classroom.grading_steps import configure

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "chatlab"
c.Execute.timeout = 60  # seconds that one cell may take when it is graded
configure(c)
