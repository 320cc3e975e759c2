-- What lists of runs are filtered by, each in the list's order: without these, a filter that few or no runs match reads all
-- runs of a project or an organization.

create index pipeline_runs_by_status on pipeline_runs (organization_id, status, id desc);
create index pipeline_runs_by_project_and_status on pipeline_runs (project_id, status, id desc);
create index pipeline_runs_by_trigger on pipeline_runs (organization_id, trigger, id desc);
create index pipeline_runs_by_project_and_trigger on pipeline_runs (project_id, trigger, id desc);
-- A run's branch, or the tag or commit that it is of.
create index pipeline_runs_by_ref on pipeline_runs (organization_id, coalesce(branch, git_ref), id desc);
create index pipeline_runs_by_project_and_ref on pipeline_runs (project_id, coalesce(branch, git_ref), id desc);
create index pipeline_runs_by_project_and_number on pipeline_runs (project_id, number);
-- Across all projects.
create index pipeline_runs_by_number on pipeline_runs (organization_id, number, id desc);

-- With the status, so that the last statuses of a project are read in this order, and not all of the project's by another index.
drop index pipeline_runs_by_project;
create index pipeline_runs_by_project on pipeline_runs (project_id, id desc) include (status);

-- The same for the audit log, and for the ended jobs of a kind or a project.
create index audit_log_by_action on audit_log (organization_id, action text_pattern_ops, id desc);
create index audit_log_by_user on audit_log (organization_id, user_id, id desc) where user_id is not null;
create index audit_log_by_key on audit_log (organization_id, key_id, id desc) where key_id is not null;
create index audit_log_by_project on audit_log (project_id, id desc) where project_id is not null;
create index audit_log_by_subject on audit_log (subject_id, id desc) where subject_id is not null;
create index job_history_by_kind on job_history (kind, id desc);
create index job_history_by_project on job_history (project_id, id desc) where project_id is not null;
